"""Exports models as people have them; run by the Python of an environment with the exporters. `python exports.py FOLDER`.

Writes NAME.onnx, and NAME.json with rows to ask it: lists of numbers, or texts and numbers by column.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightgbm  # type: ignore[import-not-found]
import numpy as np
import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
import xgboost  # type: ignore[import-not-found]
from onnxmltools.convert import convert_lightgbm, convert_xgboost  # type: ignore[import-not-found]
from onnxmltools.convert.common.data_types import FloatTensorType as MlFloats  # type: ignore[import-not-found]
from skl2onnx import convert_sklearn  # type: ignore[import-not-found]
from skl2onnx.common.data_types import (  # type: ignore[import-not-found]
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.cluster import KMeans  # type: ignore[import-not-found]
from sklearn.compose import ColumnTransformer  # type: ignore[import-not-found]
from sklearn.datasets import make_classification  # type: ignore[import-not-found]
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier  # type: ignore[import-not-found]
from sklearn.linear_model import LinearRegression, LogisticRegression  # type: ignore[import-not-found]
from sklearn.mixture import GaussianMixture  # type: ignore[import-not-found]
from sklearn.neighbors import LocalOutlierFactor  # type: ignore[import-not-found]
from sklearn.pipeline import make_pipeline  # type: ignore[import-not-found]
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # type: ignore[import-not-found]
from sklearn.svm import SVC, OneClassSVM  # type: ignore[import-not-found]


def main(folder: Path) -> None:
    x, y = make_classification(200, 4, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
    x, words = x.astype(np.float32), np.array(["ok", "warn", "bad"])[y]
    floats = [("X", FloatTensorType([None, 4]))]

    def put(name: str, model: Any, types: Any = floats, rows: Any = None, **options: Any) -> None:
        onnx = convert_sklearn(model, initial_types=types, options={id(model): options} if options else None, target_opset=17)
        (folder / f"{name}.onnx").write_bytes(onnx.SerializeToString())
        (folder / f"{name}.json").write_text(json.dumps(x[:6].tolist() if rows is None else rows))

    for name, model in (
        ("logistic", LogisticRegression()),
        ("forest", RandomForestClassifier(8)),
        ("boosted", GradientBoostingClassifier(n_estimators=8)),
        ("svc", SVC(probability=True)),
    ):
        put(name, model.fit(x, words), zipmap=False)
        put(f"{name}_zipmap", model.fit(x, y))
    put("two", LogisticRegression().fit(x, y > 0), zipmap=False)
    for name, model in (
        ("clusters", KMeans(3, n_init=2)),
        ("mixture", GaussianMixture(3)),
        ("lof", LocalOutlierFactor(novelty=True)),
        ("one_class", OneClassSVM()),
    ):
        put(name, model.fit(x))
    put("line", LinearRegression().fit(x, np.stack([y, 2 * y], 1)))
    put("doubles", LinearRegression().fit(x, y), [("X", DoubleTensorType([None, 4]))])
    whole = (x * 10).astype(int)
    put("whole", RandomForestClassifier(5).fit(whole, y), [("X", Int64TensorType([None, 4]))], whole[:6].tolist(), zipmap=False)
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"t": x[:, 0].astype(float), "city": rng.choice(["Kyiv", "Taipei"], 200), "mode": rng.choice(["a", "b"], 200)}
    )
    columns = ColumnTransformer([("n", StandardScaler(), ["t"]), ("c", OneHotEncoder(), ["city", "mode"])])
    types = [("t", FloatTensorType([None, 1])), ("city", StringTensorType([None, 1])), ("mode", StringTensorType([None, 1]))]
    rows = [{"t": float(np.float32(r["t"])), "city": r["city"], "mode": r["mode"]} for _, r in table[:6].iterrows()]
    put("columns", make_pipeline(columns, LogisticRegression()).fit(table, words), types, rows, zipmap=False)
    for name, convert, model in (
        ("xgboost", convert_xgboost, xgboost.XGBClassifier(n_estimators=8)),
        ("lightgbm", convert_lightgbm, lightgbm.LGBMClassifier(n_estimators=8, verbose=-1)),
    ):
        onnx = convert(model.fit(x, y), initial_types=[("input", MlFloats([None, 4]))])
        (folder / f"{name}.onnx").write_bytes(onnx.SerializeToString())
        (folder / f"{name}.json").write_text(json.dumps(x[:6].tolist()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
