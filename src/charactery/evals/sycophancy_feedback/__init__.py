"""Does its opinion of a text follow what the user feels about it?"""
