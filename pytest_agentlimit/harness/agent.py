"""An agent whose runs with tools go through an external program."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from pytest_agentlimit.agents.agent import Agent, Sender, Shape
from pytest_agentlimit.agents.calls import RESULT_LIMIT
from pytest_agentlimit.agents.processes import remove_folder
from pytest_agentlimit.agents.tools import as_tools
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.agents.workspace_tools import workspace_of
from pytest_agentlimit.chat.messages import Tool
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

from .harness import Harness


class NotForHarness(UsageProblem):
    """A check needs what an external program cannot be given; it has to be skipped."""


class HarnessAgent(Agent):
    """The model under test as an agent whose `run` is a real program; `ask` and `chat` are not.

    The program has tools of its own, so a run takes the tools of one workspace, all of them, or
    none at all.
    """

    def __init__(
        self,
        client: Sender,
        harness: Harness,
        *,
        shape: Shape = "bare",
        seed: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(client, shape=shape, seed=seed, name=name)
        self.harness = harness

    def __repr__(self) -> str:
        return f"<HarnessAgent {self.name} through {self.harness.spec.name}>"

    def run(
        self,
        goal: str,
        *,
        tools: Iterable[Tool] = (),
        max_steps: int = 12,
        system: str | None = None,
        result_limit: int = RESULT_LIMIT,
    ) -> Transcript:
        """Return what happened when the program worked on `goal`, in the words of our own loop.

        `system` stands before the goal. `result_limit` is the program's own affair. Without tools
        it works in an empty folder. Raises NotForHarness for other tools than a workspace's, and
        the EndpointError behind a run that says nothing about the model; a run that failed is
        returned, since the check's own expectations judge it.
        """
        workspace = _workspace(as_tools(tools))
        task = f"{system}\n\n{goal}" if system else goal
        if workspace is not None:
            return self._through(task, workspace, max_steps)
        folder = Path(tempfile.mkdtemp(prefix="agentlimit-empty-"))
        try:
            return self._through(task, Workspace(folder), max_steps)
        finally:
            remove_folder(folder)

    def _through(self, task: str, workspace: Workspace, max_steps: int) -> Transcript:
        done = self.harness.run(task, workspace, max_turns=max_steps, check=False)
        return done.expect_judgeable().transcript


def _workspace(tools: tuple[Tool, ...]) -> Workspace | None:
    """Return the workspace that `tools` are the tools of; None for no tools."""
    if not tools:
        return None
    owners = {tool.name: workspace_of([tool]) for tool in tools}
    own = [one_line(name, 60) for name, owner in owners.items() if owner is None]
    if own:
        raise NotForHarness(
            f"the check brings tools of its own ({', '.join(own)}), which an external program "
            "cannot be given"
        )
    workspace = workspace_of(tools)
    if workspace is None:
        raise NotForHarness(
            "the check brings tools of several workspaces, and an external program works in one"
        )
    left_out = {tool.name for tool in workspace.tools} - owners.keys()
    if left_out:
        raise NotForHarness(
            f"the check keeps tools from the model ({', '.join(sorted(left_out))}), and an "
            "external program cannot be kept from its own"
        )
    return workspace
