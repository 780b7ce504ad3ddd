"""Does it answer in character: at the first turn and the third, under others' system prompts, and elsewhere?"""
