"""The recipe of a training run: the model and its stages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from vistune.image_files import MAX_MEGAPIXELS, Megapixels
from vistune.recipe.evaluation import RunEvaluation
from vistune.recipe.schema import Section

Part = Literal["projector", "language", "vision", "lora"]
Count = Annotated[int, Field(ge=1, le=10**12)]
TrackerName = Literal["tensorboard", "wandb", "trackio"]
AttentionName = Literal["flex_attention", "sdpa", "flash_attention_2"]
FolderName = Annotated[str, Field(pattern=r"^[\w-]+$")]


class ModelRecipe(Section):
    """Parts that the assistant is assembled from."""

    vision_tower: str
    """Vision tower: a hub id, a folder, or `mini`."""
    language_model: str
    """Language model: a hub id, a folder, a GGUF file (or ID:FILE.gguf), or `mini`."""
    projector: Literal["linear", "mlp2x_gelu"]
    """Map from image features to the language model's embeddings: `linear` as in the paper, `mlp2x_gelu` as in
    LLaVA-1.5."""
    allow_pickle: bool = False
    """Read weights of the parts that are pickles (pytorch_model.bin), as Vicuna's and CLIP's are, not safetensors."""
    feature_layer: int = -2
    """Index of the vision tower's hidden state that the projector reads; -2 is the output of the second to last
    layer."""
    feature_strategy: Literal["default", "full"] | None = None
    """`default` drops the class token, `full` keeps it; unset: dropped if the tower has one."""
    chat_template: str | None = None
    """Chat template: `vicuna_v1`, `vicuna_v0` (LLaVA v0), `chatml`; unset: that of the language model."""
    image_aspect: Literal["pad", "crop", "stretch", "anyres"] = "pad"
    """Way to make an image square: `pad` with the mean color (LLaVA-1.5), `crop` the center (LLaVA v1), or
    `stretch`; `anyres` adds square tiles of it at a higher resolution (LLaVA-1.6)."""
    image_grid_pinpoints: Annotated[list[tuple[Count, Count]], Field(min_length=1)] | None = None
    """Grids of tiles for `anyres`, as [height, width] in pixels; an image gets the one that fits best. Unset: those of
    LLaVA-1.6, 1 x 2, 2 x 1, 2 x 2, 3 x 1 and 1 x 3 tiles."""
    image_size: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Side of the square in pixels; unset: that of the vision tower. For another size, position embeddings are
    interpolated."""


class LoraRecipe(Section):
    """Low-rank adapters of linear layers of the language model; the defaults are those of LLaVA-1.5."""

    rank: Count = 128
    """Rank of the adapters."""
    alpha: Count = 256
    """Scale of the adapters: their output is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout probability of the adapters' input."""
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the layers, e.g. [q_proj, v_proj]; unset: all linear layers but the language model head."""
    quantize: Literal["nf4"] | None = None
    """Quantization of the frozen layers to four bits (QLoRA); needs the package bitsandbytes."""


class DataRecipe(Section):
    """One file of conversations in a stage's data."""

    path: str
    """File or folder of conversations, or `hub:owner/name`."""
    images: str | None = None
    """Folder that image paths start from; unset: that of the stage."""
    allow_outside: bool = False
    """Accept image files outside of `images`: absolute paths, `..`, links that lead out of it; also set by the
    stage."""
    weight: Annotated[float, Field(gt=0, le=10**6)] = 1.0
    """Number of passes over this data in one epoch; of a partial pass, the next epoch takes the rest."""
    split: str | None = None
    """Split of a data set of the hub or on disk (default: train); in a parquet folder, the files `<split>-*`."""
    subset: str | None = None
    """Subset (configuration) of a data set of the hub."""
    columns: dict[str, str] = {}
    """Names of the data's keys that differ, e.g. {question: prompt_text, answer: label, image: file}."""


def _is_list(value: Any) -> str:
    return "list" if isinstance(value, list) else "file"


Data = Annotated[
    Annotated[str, Tag("file")] | Annotated[list[DataRecipe], Tag("list"), Field(min_length=1)], Discriminator(_is_list)
]


class StageRecipe(Section):
    """One stage of training; it starts from the checkpoint of the stage before."""

    name: FolderName
    """Name of the stage, and of the folder of its checkpoint in the run's folder."""
    data: Data
    """Conversations: JSON, JSON lines, parquet, `datasets` or WebDataset; or a list of such, mixed by weight."""
    images: str | None = None
    """Folder that image paths start from; unset if the data holds the images themselves."""
    allow_outside: bool = False
    """Accept image files outside of `images`: absolute paths, `..`, links that lead out of it."""
    skip_bad_records: bool = False
    """Leave out records that cannot be used or lack their image, with a message for each, instead of stopping."""
    template: str | None = None
    """Chat template of this stage only (`plain` for caption pairs); unset: that of the model."""
    trains: Annotated[list[Part], Field(min_length=1)]
    """Parts that are trained; all others are frozen. `lora` trains adapters instead of the language model."""
    vision_layers: Count | None = None
    """Number of the vision tower's last layers that the part `vision` trains; unset: the whole tower."""
    lora: LoraRecipe | None = None
    """Adapters of the part `lora`; unset: those of LLaVA-1.5."""
    loss: Literal["cross_entropy", "dpo"] = "cross_entropy"
    """What is minimised: the cross-entropy of answers, or DPO's of pairs of answers (docs/guides/preferences.md)."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """DPO: how much a log-likelihood counts that differs from the reference model's; the larger, the closer to it."""
    rpo_alpha: Annotated[float, Field(ge=0)] = 0.0
    """DPO: weight of the chosen answers' cross-entropy beside its loss (RPO), which keeps them likely."""
    epochs: Annotated[float, Field(gt=0, le=10**6)]
    """Number of passes over the data; may be a fraction."""
    batch_size: Count
    """Number of conversations in one optimizer step, over all processes."""
    micro_batch_size: Count
    """Approximate number of conversations in one forward pass of one process; no effect on the result."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Peak learning rate of AdamW."""
    learning_rates: dict[Part, Annotated[float, Field(gt=0)]] = {}
    """Peak learning rates of single parts that differ from `learning_rate`, e.g. {projector: 2.0e-3}."""
    optim: Literal["adamw", "adamw_8bit"] = "adamw"
    """Optimizer: AdamW, or AdamW whose moments take 8 bits each (bitsandbytes, on a GPU)."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of all steps in which the learning rate rises to its peak."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warm-up: it falls to zero along a cosine or a line, or stays constant."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of AdamW."""
    adam_betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay rates of AdamW's running means of the gradient and of its square."""
    max_length: Count = 2048
    """Maximum number of tokens of a conversation, including those of the image."""
    activation_checkpointing: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of the language model's layers whose activations are recomputed in the backward pass: less memory, more
    time; no effect on the result."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Maximum norm of the gradient."""
    checkpoint_every: Count = 500
    """Number of optimizer steps between saved training states; an interrupted run resumes from the last one."""
    log_every: Count = 10
    """Number of optimizer steps between lines of the log."""
    validation_data: Data | None = None
    """Conversations that are not trained on; their mean loss is logged as val/loss."""
    validate_every: Count = 500
    """Number of optimizer steps between validations; there is another one at the end of the stage."""
    show_answers: Annotated[int, Field(ge=0)] = 4
    """Number of validation questions that the model answers at each validation, to look at in TensorBoard and W&B."""
    early_stopping: Count | None = None
    """Number of validations in a row without a new lowest loss that end the stage; the weights of the lowest loss are
    kept. With `keep_best`, of evaluations without a new best score."""
    evaluate_every: Count | None = None
    """Number of optimizer steps between runs of the recipe's `evaluation`; there is another one at the end of the
    stage."""
    keep_best: str | None = None
    """Score of the evaluation whose best weights the stage keeps, as in scene_qa/accuracy; -chair/chair: the lowest."""
    save: Literal["full", "trained"] = "full"
    """Content of the checkpoint: the whole model, or only the `trained` parts and the name of the model they belong
    to."""

    @model_validator(mode="after")
    def _parts_agree(self) -> StageRecipe:
        if "lora" in self.trains and "language" in self.trains:
            raise ValueError("it trains either `lora` or the whole `language` model")
        if self.lora and "lora" not in self.trains:
            raise ValueError("it has settings of `lora` but does not train it: add it to `trains`")
        if self.loss == "dpo" and self.trains != ["lora"]:
            raise ValueError("`loss: dpo` needs `trains: [lora]`: its reference is the model without the adapters")
        if self.vision_layers and "vision" not in self.trains:
            raise ValueError("it has `vision_layers` but does not train `vision`: add it to `trains`")
        if self.early_stopping and not (self.validation_data or self.keep_best):
            raise ValueError("early_stopping needs validation_data or keep_best")
        if self.keep_best and not self.evaluate_every:
            raise ValueError("keep_best needs evaluate_every")
        if rest := set(self.learning_rates) - set(self.trains):
            raise ValueError(f"it has a learning rate of {', '.join(sorted(rest))} but does not train it")
        if self.save == "trained" and not {"projector", "lora"}.issuperset(self.trains):
            raise ValueError("`save: trained` is for stages that train projector and lora only")
        return self

    def sources(self, *, validation: bool = False) -> list[DataRecipe]:
        """The parts of the data, or of the validation data, each with its folder of images."""
        data = (self.validation_data or []) if validation else self.data
        entries = [DataRecipe(path=data)] if isinstance(data, str) else data
        outside = self.allow_outside
        return [
            one.model_copy(update={"images": one.images or self.images, "allow_outside": one.allow_outside or outside})
            for one in entries
        ]

    @model_validator(mode="after")
    def _batches_divide(self) -> StageRecipe:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of micro_batch_size {self.micro_batch_size}")
        return self


class Recipe(Section):
    """A training run. Paths are relative to the working directory."""

    name: str
    """Name of the run."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of all random choices: the initial weights of the projector, the order of the data."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the forward and backward passes; the weights are trained in fp32. fp16, with a scaled loss, is for
    GPUs without bf16."""
    tf32: bool = True
    """Compute fp32 products on a GPU in TF32."""
    attn_implementation: AttentionName | None = None
    """Attention of the language model: `flex_attention`, `sdpa`, `flash_attention_2` (16 bits, package flash-attn);
    no effect on the result; unset: flex_attention on a GPU, else sdpa."""
    compile: bool = False
    """Compile the language model's layers (torch.compile): a slow first step, then faster ones. On a CPU it needs
    g++."""
    feature_cache_gb: Annotated[float, Field(ge=0)] = 20
    """Maximum size in gigabytes of the cache of a frozen tower's features in the run's folder, used if epochs or stages
    repeat images; 0: no cache."""
    max_megapixels: Megapixels = MAX_MEGAPIXELS
    """Maximum size of an image that is decoded, in million pixels; larger ones cannot be read."""
    log_to: list[TrackerName] = ["tensorboard"]
    """Trackers of the training curves, besides each stage's log.jsonl: tensorboard, wandb, trackio."""
    model: ModelRecipe | None = None
    """Parts that the assistant is assembled from."""
    start: str | None = None
    """Checkpoint that the first stage starts from, instead of `model`: a folder, or the hub id of any LLaVA of
    transformers, e.g. llava-hf/llava-1.5-7b-hf."""
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """dtype of whole checkpoints, from which the next stage starts; 16 bits take half of the space."""
    stages: Annotated[list[StageRecipe], Field(min_length=1)]
    """Stages of training, in order."""
    evaluation: RunEvaluation | None = None
    """Benchmarks for the run's checkpoints."""

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Recipe:
        if (self.model is None) == (self.start is None):
            raise ValueError("it needs either `model`, what to assemble, or `start`, a checkpoint")
        return self

    @model_validator(mode="after")
    def _says_what_to_evaluate(self) -> Recipe:
        if self.evaluation is None and any(stage.evaluate_every for stage in self.stages):
            raise ValueError("evaluate_every needs `evaluation`, the benchmarks to run")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Recipe:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages have the same name ({', '.join(names)})")
        return self
