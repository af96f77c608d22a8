"""Who signs, and where files come from."""

from tests.support.fleet import server as server
from tests.support.fleet import signer as signer
