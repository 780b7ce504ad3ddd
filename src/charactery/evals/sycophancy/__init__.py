"""Does it say what the user would like to hear?"""
