"""Does it notice where two of its principles pull apart?"""
