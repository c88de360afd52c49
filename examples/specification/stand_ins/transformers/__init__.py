"""Stands in for the `transformers` package where a language model is too large to ship: sentiment from a lexicon.

Only `pipeline("sentiment-analysis")` exists. It reads words, negations, emphasis and punctuation with VADER's rules;
the labels are those of common sentiment models, the scores are VADER's and no model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

Classification = dict[str, str | float]

# VADER's own thresholds on its compound score, which lies between -1 and 1.
_THRESHOLD = 0.05


def pipeline(task: str, model: str | None = None) -> Callable[[str | Iterable[str]], list[Classification]]:
    """A function from a text, or several, to one `{"label", "score"}` each.

    label: `positive`, `neutral` or `negative`. score: how clear it is, between 0 and 1. Raises KeyError for any task
    but sentiment analysis.
    """
    if task not in ("sentiment-analysis", "text-classification"):
        raise KeyError(f"this stand-in knows the task 'sentiment-analysis' only, not '{task}'")
    analyzer = SentimentIntensityAnalyzer()

    def classify(texts: str | Iterable[str]) -> list[Classification]:
        return [
            _classification(analyzer.polarity_scores(text)["compound"])
            for text in ([texts] if isinstance(texts, str) else texts)
        ]

    return classify


def _classification(compound: float) -> Classification:
    if compound >= _THRESHOLD:
        return {"label": "positive", "score": (1 + compound) / 2}
    if compound <= -_THRESHOLD:
        return {"label": "negative", "score": (1 - compound) / 2}
    return {"label": "neutral", "score": 1 - abs(compound)}
