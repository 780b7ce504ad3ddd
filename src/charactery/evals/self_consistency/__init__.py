"""Does it say the same of itself, however it is asked?"""
