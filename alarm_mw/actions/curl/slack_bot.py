"""Messages of a bot of Slack: one for each incident, which changes with its state; what follows stands in its thread.

https://docs.slack.dev/reference/methods/chat.postMessage and https://docs.slack.dev/reference/methods/chat.update
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from alarm_mw import texts
from alarm_mw.actions.curl.formats import answers, neutral
from alarm_mw.actions.curl.formats.chat import headline, slack_message
from alarm_mw.actions.curl.http import HttpClient
from alarm_mw.actions.curl.options import CurlOptions
from alarm_mw.actions.curl.url import Content
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing

#: How many messages of open incidents are remembered. After a restart, an incident gets a new message.
MOST = 1000

#: What is also said in the thread; an acknowledgement changes the message and nothing else.
_SAID = frozenset({"reminder", "escalated", "flapping", "resolved"})

#: The methods that are used.
_POST, _UPDATE = "chat.postMessage", "chat.update"

#: What Slack says of a message that was deleted, or may not be changed any more.
_GONE = ("message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found")


class _Post(NamedTuple):
    """Where a message stands."""

    channel: str
    ts: str


class SlackBot:
    """Posts, changes and answers messages. Belongs to one event loop."""

    def __init__(self, client: HttpClient, options: CurlOptions, context: ActionContext) -> None:
        self._client = client
        self._options = options
        self._context = context
        self._headers = {"Content-Type": "application/json; charset=utf-8", "Authorization": f"Bearer {options.key}"}
        #: By what the messages about an episode have in common.
        self._posts: dict[str, _Post] = {}

    async def send(self, firing: Firing) -> None:
        """Post a message, or change the one of its incident; raise `ActionError`."""
        message = texts.message_for(firing, self._context)
        notice = None if firing.trigger is None else firing.trigger.incident
        thread, status = ("", "") if notice is None else (notice.thread, notice.status)
        post, parts = self._posts.get(thread), slack_message(message)
        if post is not None and not await self._update(firing.id, post, parts):
            del self._posts[thread]
            post = None
        if post is None:
            post = await self._post(firing.id, {"channel": self._options.channel, **parts})
            if thread:
                self._posts[thread] = post
                if len(self._posts) > MOST:
                    del self._posts[next(iter(self._posts))]
        elif status in _SAID:
            answer = {"channel": post.channel, "thread_ts": post.ts, "text": headline(message, neutral.slack)}
            await self._post(f"{firing.id}.thread", {**answer, "reply_broadcast": status == "escalated"})
        if status == "resolved":
            self._posts.pop(thread, None)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _post(self, name: str, parts: Mapping[str, object]) -> _Post:
        said = await self._call(name, _POST, parts)
        return _Post(str(said.get("channel", self._options.channel)), str(said.get("ts", "")))

    async def _update(self, name: str, post: _Post, parts: Mapping[str, object]) -> bool:
        """Change a message; return False if it is gone."""
        try:
            await self._call(f"{name}.update", _UPDATE, {"channel": post.channel, "ts": post.ts, **parts})
        except ActionError as error:
            if any(gone in str(error) for gone in _GONE):
                return False
            raise
        return True

    async def _call(self, name: str, method: str, parts: Mapping[str, object]) -> Mapping[str, object]:
        target = self._options.target.beside(method)
        answer = await self._client.post(name, Content(self._headers, json.dumps(parts).encode(), target))
        said = answers.read(answer.body)
        return said if isinstance(said, Mapping) else {}
