"""The build of `make android`, where there is no Android SDK."""
