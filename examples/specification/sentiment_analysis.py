"""The specification's sentiment agent: a cache that expires, a model, a database, and a schedule that cleans up.

Runs in a folder with amx-config.yaml; `python -m examples.specification sentiment` brings what it needs.
"""

import asyncio
import logging
from datetime import datetime, timedelta

from amx_engine import Agent, AmxEngine, capability, handler, memory, scheduled
from amx_engine.types import Message, ProcessingResult


@Agent(name="SentimentAnalysisAgent", version="2.1.0")
class SentimentAnalysisAgent:
    def __init__(self):
        self.logger = logging.getLogger(self.__class__.__name__)

    @memory(persistent=True, ttl=timedelta(hours=24))
    def sentiment_cache(self):
        return {}

    @capability
    def sentiment_analyzer(self):
        from transformers import pipeline

        return pipeline("sentiment-analysis", model="cardiffnlp/twitter-roberta-base-sentiment-latest")

    @capability
    def database(self):
        import psycopg2

        return psycopg2.connect(host="localhost", database="analytics", user="amx_user", password="secure_password")

    @handler
    async def analyze_text(self, message: Message) -> ProcessingResult:
        text = message.content.get("text", "")

        if not text:
            return ProcessingResult.error("No text provided for analysis")

        cache_key = hash(text)
        if cache_key in self.sentiment_cache:
            self.logger.info("Cache hit for sentiment analysis")
            return ProcessingResult.success(data=self.sentiment_cache[cache_key], from_cache=True)

        try:
            result = self.sentiment_analyzer(text)
            sentiment_data = {
                "label": result[0]["label"],
                "confidence": result[0]["score"],
                "text_length": len(text),
                "analyzed_at": datetime.utcnow().isoformat(),
                "model_version": "roberta-base-sentiment-v2.1",
            }

            self.sentiment_cache[cache_key] = sentiment_data

            with self.database.cursor() as cursor:
                cursor.execute(
                    """
                    INSERT INTO sentiment_analysis
                    (text_hash, sentiment_label, confidence, text_length, analyzed_at)
                    VALUES (%s, %s, %s, %s, %s)
                    """,
                    (
                        cache_key,
                        sentiment_data["label"],
                        sentiment_data["confidence"],
                        sentiment_data["text_length"],
                        sentiment_data["analyzed_at"],
                    ),
                )
                self.database.commit()

            return ProcessingResult.success(data=sentiment_data)

        except Exception as e:
            self.logger.error(f"Sentiment analysis failed: {e!s}")
            return ProcessingResult.error(f"Analysis failed: {e!s}")

    @scheduled(interval=timedelta(hours=6))
    async def cleanup_old_cache_entries(self):
        """Drops what was analysed more than 24 hours ago."""
        cutoff_time = datetime.utcnow() - timedelta(hours=24)

        expired_keys = []
        for key, data in self.sentiment_cache.items():
            if datetime.fromisoformat(data["analyzed_at"]) < cutoff_time:
                expired_keys.append(key)

        for key in expired_keys:
            del self.sentiment_cache[key]

        self.logger.info(f"Cleaned up {len(expired_keys)} expired cache entries")


async def main():
    engine = AmxEngine.builder().with_config("amx-config.yaml").with_agent(SentimentAnalysisAgent()).build()

    await engine.start()

    result = await engine.send_message(
        agent_name="SentimentAnalysisAgent",
        message=Message(
            content={"text": "I love using AIMatrix! It makes development so much easier."},
            priority="normal",
        ),
    )

    print(f"Sentiment analysis result: {result.data}")

    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main())
