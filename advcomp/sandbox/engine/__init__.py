"""Container engines: images, options, first process and remains of the boxes that they make."""
