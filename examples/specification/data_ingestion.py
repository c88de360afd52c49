"""The specification's ingestion pipeline: files in S3, cleaned with pandas, indexed for searching.

Runs in a folder with amx-config.yaml; `python -m examples.specification ingestion` brings what it needs.
"""

import asyncio

import pandas as pd

from amx_engine import AmxEngine, Pipeline, error_handler, stage
from amx_engine.connectors import ElasticsearchConnector, S3Connector


@Pipeline(name="DataIngestionPipeline")
class DataIngestionPipeline:
    @stage(order=1)
    async def extract_from_s3(self, context):
        s3 = S3Connector(
            aws_access_key_id=context.config["aws"]["access_key"],
            aws_secret_access_key=context.config["aws"]["secret_key"],
            region_name="us-west-2",
        )

        files = await s3.list_objects(bucket="data-lake-raw", prefix="daily-exports/")

        raw_data = []
        for file_key in files:
            data = await s3.get_object(bucket="data-lake-raw", key=file_key)
            raw_data.append(data)

        return {"raw_data": raw_data, "file_count": len(files)}

    @stage(order=2)
    async def transform_data(self, context):
        raw_data = context.previous_result["raw_data"]

        transformed_records = []
        for data_chunk in raw_data:
            df = pd.read_json(data_chunk)

            df["timestamp"] = pd.to_datetime(df["timestamp"])
            df["amount"] = df["amount"].astype(float)
            df["category"] = df["category"].str.lower().str.strip()

            df = df.drop_duplicates(subset=["transaction_id"])

            df["year_month"] = df["timestamp"].dt.to_period("M")
            df["is_weekend"] = df["timestamp"].dt.weekday >= 5

            transformed_records.extend(df.to_dict("records"))

        return {"transformed_records": transformed_records, "record_count": len(transformed_records)}

    @stage(order=3)
    async def load_to_elasticsearch(self, context):
        records = context.previous_result["transformed_records"]

        es = ElasticsearchConnector(hosts=["elasticsearch:9200"], index_name="financial_transactions")

        bulk_result = await es.bulk_index(records)

        return {"loaded_count": bulk_result["items_inserted"], "errors": bulk_result["errors"]}

    @error_handler
    async def handle_pipeline_error(self, context, error):
        context.logger.error(f"Pipeline failed at stage {context.current_stage}: {error}")

        await context.notification_service.send_alert(
            channel="data-engineering",
            message=f"Data pipeline failed: {error}",
            severity="high",
        )

        return context.partial_results if hasattr(context, "partial_results") else None


async def main():
    engine = AmxEngine.builder().with_config("amx-config.yaml").with_agent(DataIngestionPipeline).build()

    await engine.start()

    result = await engine.send_message("DataIngestionPipeline", {})
    print(f"Pipeline result: {result.data}")

    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main())
