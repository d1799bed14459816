"""File imports: a CSV and a mapping become events through the same validation and producer as HTTP.

Every row's messageId is made of the file's hash, the mapping and the row's number, so sending the same
file again, or going on after a crash, changes nothing.
"""
