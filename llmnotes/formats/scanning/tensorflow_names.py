"""Lists of TensorFlow's operators that call Python, reach for other machines, or read and write files."""

FILES = set(
    # Python functions, and programs in other processes.
    "PyFunc PyFuncStateless EagerPyFunc RpcCall RpcClient RpcServer RpcServerStart RpcGetValue Rpc TryRpc "
    "RemoteFusedGraphExecute TRTEngineOp CreateTRTResourceHandle InitializeTRTResource LoadLibrary "
    # Whole files.
    "ReadFile WriteFile MatchingFiles DebugIdentityV3 DebugIdentityV2 DebugIdentity SaveV2Custom "
    "WholeFileReader WholeFileReaderV2 FixedLengthRecordReader FixedLengthRecordReaderV2 TextLineReader "
    "TextLineReaderV2 TFRecordReader TFRecordReaderV2 LMDBReader "
    "FileSystemSetConfiguration ImportEvent WriteSummary WriteGraphSummary WriteRawProtoSummary "
    "CreateSummaryFileWriter CreateSummaryDbWriter "
    # Datasets that are read from files and databases, or written there.
    "FixedLengthRecordDataset FixedLengthRecordDatasetV2 TFRecordDataset TFRecordDatasetV2 TextLineDataset "
    "LMDBDataset ExperimentalLMDBDataset CSVDataset CSVDatasetV2 ExperimentalCSVDataset SqlDataset "
    "ExperimentalSqlDataset SnapshotDataset SnapshotDatasetV2 SnapshotDatasetReader SaveDataset SaveDatasetV2 "
    "LoadDataset DistributedSave ListSnapshotChunksDataset MatchingFilesDataset ExperimentalMatchingFilesDataset "
    "DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4 RegisterDataset "
    "RegisterDatasetV2 DatasetFromGraph BigQueryReader BigtableClient".split()
)
# What the saver of every model needs, and no other part of it.
SAVER = set("Save SaveSlices SaveV2 Restore RestoreSlice RestoreV2 MergeV2Checkpoints CheckpointHasKey".split())
# What reads a file that stands beside the model, where it is what its maker meant.
BESIDE = {"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"}


def touches(text: str) -> list[str]:
    """Return the operators of `FILES` that a text names as an operator, in quotes.

    >>> touches('{"op": "ReadFile", "name": "a"}')
    ['ReadFile']
    """
    return sorted(name for name in FILES | SAVER if f'"{name}"' in text or f'\\"{name}\\"' in text)
