"""Does whoever prefers, a judge or a data set, prefer the user's side?"""
