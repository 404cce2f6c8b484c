"""What a build will need, by arithmetic alone: no file, no network, no numpy."""
