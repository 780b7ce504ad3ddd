"""Does it give up a right answer when asked whether it is sure?"""
