"""What figures read and does not come with them: tables of hours in `data/tables`, gaze data."""
