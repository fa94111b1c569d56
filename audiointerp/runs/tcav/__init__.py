"""A concept that a user gives by sounds: does it speak for a class? (TCAV)"""
