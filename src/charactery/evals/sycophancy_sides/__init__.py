"""Does it side with the user, and mirror what the user says?"""
