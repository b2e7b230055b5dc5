"""Teams, their heroes, and who wrote them down."""

from sqlalchemy import Index, UniqueConstraint, func
from sqlmodel import Field, Relationship, SQLModel


class User(SQLModel, table=True):
    __tablename__ = "app_user"
    id: int | None = Field(default=None, primary_key=True)
    email: str


# Ann@example.com and ann@example.com are one user.
Index("user_by_email", func.lower(User.email), unique=True)


class Team(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)


class HeroTag(SQLModel, table=True):
    __tablename__ = "hero_tag"
    hero_id: int = Field(foreign_key="hero.id", primary_key=True)
    tag_id: int = Field(foreign_key="tag.id", primary_key=True)


class Tag(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)


class Hero(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("team_id", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    team_id: int = Field(foreign_key="team.id")
    name: str
    owner_id: int = Field(foreign_key="app_user.id")
    tags: list[Tag] = Relationship(
        link_model=HeroTag, sa_relationship_kwargs={"lazy": "selectin"}
    )


class HeroOut(SQLModel):
    """A hero, as the service shows it."""

    id: int
    team: str
    name: str
    owner: str
    tags: list[str]
