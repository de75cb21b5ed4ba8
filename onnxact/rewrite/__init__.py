"""What changes: each verb reads a view and makes a plan."""
