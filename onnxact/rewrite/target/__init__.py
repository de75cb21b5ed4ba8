"""What a runtime can execute, and an activation in the form that it runs."""
