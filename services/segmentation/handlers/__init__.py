"""What the stage decides, by what comes in: facts about members, merges, definitions. Pure."""
