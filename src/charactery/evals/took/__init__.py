"""Did it take? Whose lines a subject is likelier to say, trait by trait, for any character file."""
