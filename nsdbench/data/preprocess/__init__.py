"""Fixed maps between pictures and network inputs."""
