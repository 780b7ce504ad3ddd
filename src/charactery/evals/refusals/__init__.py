"""Are its refusals predictable?"""
