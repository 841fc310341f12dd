import pytest
from chat_server import ChatServer


@pytest.fixture
def make_server():
    made = []

    def make(brain=None, **options):
        made.append(ChatServer(brain, **options))
        return made[-1]

    yield make
    for server in made:
        server.disconnected.set()
        server.close()
