"""A real person as the character: whose words its answers are in, what it never knew, what it says of itself."""
