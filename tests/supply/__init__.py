"""What leaves this repository: the wheel, the sdist, the lock of the image, the bill of materials, the workflows."""
