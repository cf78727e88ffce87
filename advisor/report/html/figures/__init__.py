"""What the page draws: each figure with its picture's specification, its text alternative and its data as a table."""
