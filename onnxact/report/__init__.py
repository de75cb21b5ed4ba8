"""Results for people: tables and sentences on a terminal."""
