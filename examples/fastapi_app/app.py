"""Heroes over HTTP: who may write, what belongs to everybody, and what to a request."""

import os
from dataclasses import asdict
from typing import Annotated, Any

from database import Creator, Reader, Transaction, lifespan
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from models import Hero, HeroOut, HeroTag, Tag, Team, User
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import func
from sqlmodel import select

from async_goc import DEFAULT_POLICY, get_or_create, get_or_create_many
from async_goc.exceptions import (
    ContentionError,
    RivalTimeoutError,
    SnapshotConflictError,
)

app = FastAPI(title="Heroes", lifespan=lifespan)


@app.exception_handler(ContentionError)
@app.exception_handler(RivalTimeoutError)
@app.exception_handler(SnapshotConflictError)
async def try_again(_: Request, error: Exception) -> JSONResponse:
    detail = f"{type(error).__name__}; try again"
    return JSONResponse({"detail": detail}, 503, {"Retry-After": "1"})


# Users, teams and tags belong to everybody: whoever is first to name one creates it, at
# once, whatever becomes of the request. A creator does that in transactions of its own,
# before the request's own has begun.
async def current_user(creator: Creator, user: Annotated[str, Header()]) -> User:
    is_same = func.lower(User.email) == user.lower()
    found, _ = await creator.get_or_create(User, is_same, defaults={"email": user})
    return found


async def named_team(creator: Creator, team: str) -> Team:
    found, _ = await creator.get_or_create(Team, name=team)
    return found


async def named_tags(
    creator: Creator, tags: Annotated[list[str], Query()]
) -> list[Tag]:
    return [tag for tag, _ in await creator.get_or_create_many(Tag, tags, key="name")]


@app.put("/heroes/{team}/{name}")
async def put_hero(
    user: Annotated[User, Depends(current_user)],
    team: Annotated[Team, Depends(named_team)],
    tags: Annotated[list[Tag], Depends(named_tags)],
    name: str,
    session: Transaction,
    response: Response,
) -> HeroOut:
    """Create the hero, unless it is there, and add the tags to it."""
    hero, created = await get_or_create(
        session, Hero, team_id=team.id, name=name, defaults={"owner_id": user.id}
    )
    links = [{"hero_id": hero.id, "tag_id": tag.id} for tag in tags]
    await get_or_create_many(session, HeroTag, links)
    response.status_code = 201 if created else 200
    await session.refresh(hero, ["tags"])
    return await shown(session, hero, team)


@app.get("/heroes/{team}")
async def heroes(team: str, session: Reader) -> list[HeroOut]:
    """List the heroes of a team."""
    query = select(Hero, Team).join(Team).where(Team.name == team).order_by(Hero.name)
    return [await shown(session, *row) for row in await session.exec(query)]


async def shown(session: Transaction, hero: Hero, team: Team) -> HeroOut:
    owner = await session.get_one(User, hero.owner_id)
    tags = sorted(tag.name for tag in hero.tags)
    names = {"team": team.name, "owner": owner.email, "tags": tags}
    return HeroOut.model_validate(hero, update=names)


@app.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """What this worker has counted, for Prometheus."""
    text = generate_latest(request.state.metrics)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@app.get("/state", include_in_schema=False)
async def state(request: Request) -> dict[str, Any]:
    """What the requests of this worker hold at this moment."""
    locks = DEFAULT_POLICY.locks
    pool = request.state.sessions.kw["bind"].pool
    held = {} if locks is None else asdict(locks.statistics())
    return {**held, "connections": pool.checkedout(), "worker": os.getpid()}
