"""Leaks added to a utility's own history: what would Nightline have found here?"""
