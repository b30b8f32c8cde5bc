"""What makes the course: the frame of a lesson, its generated cells, the solutions. Comes with the clone only."""
