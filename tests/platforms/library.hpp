// What a user's library, library.cpp, offers to a user's program.
#pragma once

// How many spans it recorded: 0 without a client.
int use_library();
