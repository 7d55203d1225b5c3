"""A district to try the service with: real places, made-up people."""
