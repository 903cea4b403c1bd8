"""Personal data in what tools tell: masked, or held back, before a model, a person or the ledger gets it."""

from dataclasses import dataclass, field, replace

from errand_common.personal_data import PersonalDataPolicy, masked

from errand_tools.domain.progress import Tell
from errand_tools.domain.tools import SideEffect, Tool, ToolDenied


@dataclass(frozen=True, slots=True)
class Screen:
    """The policy on one call's answer; `found` are the kinds of personal data that were in it."""

    policy: PersonalDataPolicy = PersonalDataPolicy.OFF
    found: set[str] = field(default_factory=set)

    def text(self, text: str) -> str:
        """The text with personal data masked, where the policy is not to let it pass."""
        if self.policy is PersonalDataPolicy.OFF:
            return text
        safe, found = masked(text)
        self.found.update(found)
        return safe

    def check(self, tool: Tool) -> None:
        """Raises ToolDenied for an answer that the policy holds back.

        What changes something has happened: its answer is passed on, masked.
        """
        if self.found and self.policy is PersonalDataPolicy.BLOCK and tool.side_effect is SideEffect.NONE:
            kinds = ", ".join(sorted(self.found))
            raise ToolDenied(f"The tool's answer holds personal data ({kinds}), which the policy here keeps back.")

    def over(self, tell: Tell) -> Tell:
        """Tells the same, masked."""
        if self.policy is PersonalDataPolicy.OFF:
            return tell
        return lambda progress: tell(replace(progress, message=self.text(progress.message)))
