"""Does it take up a user's answer to a problem that it can, or cannot, solve?"""
