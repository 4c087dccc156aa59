"""What is minimised: the losses of the tasks, and the constraints that tie a student to its teacher."""
