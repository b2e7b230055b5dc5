"""Each call in a transaction of its own.

`retry` runs a whole transaction again when the database asks for it. An `attempt` is
one run; `commits` knows how far it had come when it failed, which decides whether there
may be another, and `closing` ends its session whatever happens meanwhile.

`creator` has the verbs (`bulk_verbs` those for many rows), and `transactions` what they
have in common; `own_call` is one call, and `wanted` the row that it asks for. `find` is
the loop: `flights` lets equal calls share an answer, `batch` gathers different ones,
and `under_way` keeps both for each event loop. What needs it goes by a session, whose
work may be done again (`once`), and which has instances of its own (`adopted`).

`direct` answers a call past SQLAlchemy's execution, where that is certain to give the
same; `judgement` says where. `statements` and `inserts` prepare
what is sent, `one_trip` what looks and inserts in one go, and `rows` makes instances of
what comes back. For many calls at once, `arrays` sends all rows in one statement, and
`steps` one after the other; `asks` tells them apart.
"""

# pyright: reportUnusedImport=false

from .adopted import adopted
from .batch import Batch
from .creator import GetOrCreator
from .retry import run_in_transaction
