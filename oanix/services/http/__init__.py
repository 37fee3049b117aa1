"""HttpFs: the web as files, under a policy.

README
get/SCHEME/HOST[:PORT]/REST    the body of one GET
call                           a JSON request written, its answer read
new                            makes a conversation
N/                             ctl url method headers body response response_headers status error
policy                         the rules that count here
log                            a line for each request
"""

from oanix.services.http.service import HttpFs

__all__ = ["HttpFs"]
