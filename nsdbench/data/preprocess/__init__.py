"""Preprocessing: fixed maps between images and network inputs."""
