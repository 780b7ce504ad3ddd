"""What does it remember of its constitution?"""
