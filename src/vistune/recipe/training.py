"""The recipe of a training run: the model and its stages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from vistune.recipe.schema import Section

Part = Literal["projector", "language", "vision", "lora"]
Count = Annotated[int, Field(ge=1)]
TrackerName = Literal["tensorboard", "wandb", "trackio"]
FolderName = Annotated[str, Field(pattern=r"^[\w-]+$")]


class ModelRecipe(Section):
    """What the assistant is assembled from."""

    vision_tower: str
    """The vision tower: a hub id, a folder, or `mini`."""
    language_model: str
    """The language model: a hub id, a folder, a GGUF file (or ID:FILE.gguf), or `mini`."""
    projector: Literal["linear", "mlp2x_gelu"]
    """What maps image features to the language model's embeddings: the paper's `linear`, v1.5's `mlp2x_gelu`."""
    feature_layer: int = -2
    """The vision tower's hidden state that the projector reads; -2 is the output of the layer before the last."""
    feature_strategy: Literal["default", "full"] | None = None
    """`default` drops the class token, `full` keeps it; none: dropped where the tower has one."""
    chat_template: str | None = None
    """The chat template: `vicuna_v1`, `vicuna_v0` (LLaVA v0), `chatml`; none: the language model's own."""
    image_aspect: Literal["pad", "crop", "stretch"] = "pad"
    """How an image becomes a square: `pad` with the mean colour (v1.5), `crop` the centre (v1), or `stretch`."""
    image_size: Count | None = None
    """The square's side in pixels; none: the vision tower's own. For another one its positions are interpolated."""


class LoraRecipe(Section):
    """Low-rank adapters beside linear layers of the language model; the defaults are LLaVA-1.5's."""

    rank: Count = 128
    """The adapters' rank."""
    alpha: Count = 256
    """alpha / rank scales what the adapters add."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """The share of an adapter's inputs that training drops."""
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """The layers' names, e.g. [q_proj, v_proj]; none: all linear layers, without the head."""
    quantize: Literal["nf4"] | None = None
    """Keep the language model's layers beside them in four bits (QLoRA); needs the package bitsandbytes."""


class DataRecipe(Section):
    """One file of conversations in a stage's data."""

    path: str
    """A file or folder of conversations, or `hub:owner/name`."""
    images: str | None = None
    """The folder that the data's image paths start from; none: the stage's."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often one epoch passes over this data; of a part of a pass, the next epoch takes the rest."""
    split: str | None = None
    """The split of a data set of the hub or on disk (none: train); of a parquet folder, the files `<split>-*`."""
    subset: str | None = None
    """The subset (configuration) of a data set of the hub."""

    def label(self) -> str:
        """What messages call it."""
        chosen = ", ".join(name for name in (self.subset, self.split) if name)
        return f"{self.path} [{chosen}]" if chosen else self.path


def _is_list(value: Any) -> str:
    return "list" if isinstance(value, list) else "file"


Data = Annotated[
    Annotated[str, Tag("file")] | Annotated[list[DataRecipe], Tag("list"), Field(min_length=1)], Discriminator(_is_list)
]


class StageRecipe(Section):
    """One stage of training; it starts from the checkpoint of the stage before."""

    name: FolderName
    """The stage's name; its checkpoint is the folder of this name in the run's folder."""
    data: Data
    """The conversations: JSON, JSON lines, parquet, `datasets` or WebDataset; or a list of such, mixed by weight."""
    images: str | None = None
    """The folder that the data's image paths start from; none where the data holds the images themselves."""
    skip_bad_records: bool = False
    """Leave out records that cannot be used or lack their image, named and counted, instead of stopping at one."""
    template: str | None = None
    """The chat template of this stage only (`plain` for caption pairs); none: the model's."""
    trains: Annotated[list[Part], Field(min_length=1)]
    """The parts that are trained; all others are frozen. `lora` is adapters in the language model's place."""
    lora: LoraRecipe | None = None
    """The adapters of the part `lora`; none: LLaVA-1.5's."""
    epochs: Annotated[float, Field(gt=0)]
    """Passes over the data; may be a fraction."""
    batch_size: Count
    """Conversations in one optimizer step, over all processes."""
    micro_batch_size: Count
    """About how many conversations one forward pass of one process takes; no effect on the result."""
    learning_rate: Annotated[float, Field(gt=0)]
    """The peak learning rate of AdamW."""
    learning_rates: dict[Part, Annotated[float, Field(gt=0)]] = {}
    """Peak learning rates of single parts, where they differ from `learning_rate`: {projector: 2.0e-3}."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """The share of all steps in which the learning rate rises."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate goes on after it has risen: it falls to zero along a cosine or a line, or it stays."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's weight decay."""
    adam_betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """How slowly AdamW's means of the gradients and of their squares move."""
    max_length: Count = 2048
    """The most tokens of a conversation, the image's included."""
    activation_checkpointing: Annotated[float, Field(ge=0, le=1)] = 0
    """The share of the language model's layers that are computed again in the backward pass: less memory, more time;
    no effect on the result."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """The gradient's largest norm."""
    checkpoint_every: Count = 500
    """Steps between the states that an interrupted run resumes from."""
    log_every: Count = 10
    """Steps between the lines of the log."""
    validation_data: Data | None = None
    """Conversations that are not trained on; the loss on all of them is logged as val/loss."""
    validate_every: Count = 500
    """Steps between these losses; one is taken at the stage's end, too."""
    early_stopping: Count | None = None
    """End the stage after so many of these losses in a row without a new lowest, and take the weights of the lowest."""
    save: Literal["full", "trained"] = "full"
    """What the checkpoint holds: the whole model, or only what was `trained` and the name of what it was trained on."""

    @model_validator(mode="after")
    def _parts_agree(self) -> StageRecipe:
        if "lora" in self.trains and "language" in self.trains:
            raise ValueError("it trains either `lora` or the whole `language` model")
        if self.lora and "lora" not in self.trains:
            raise ValueError("it has settings of `lora` but does not train it: add it to `trains`")
        if self.early_stopping and not self.validation_data:
            raise ValueError("early_stopping needs validation_data")
        if rest := set(self.learning_rates) - set(self.trains):
            raise ValueError(f"it has a learning rate of {', '.join(sorted(rest))} but does not train it")
        if self.save == "trained" and not {"projector", "lora"}.issuperset(self.trains):
            raise ValueError("`save: trained` is for stages that train projector and lora only")
        return self

    def sources(self, *, validation: bool = False) -> list[DataRecipe]:
        """The files of the data, or of the validation data, each with its folder of images."""
        data = (self.validation_data or []) if validation else self.data
        entries = [DataRecipe(path=data)] if isinstance(data, str) else data
        return [entry.model_copy(update={"images": entry.images or self.images}) for entry in entries]

    @model_validator(mode="after")
    def _batches_divide(self) -> StageRecipe:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of micro_batch_size {self.micro_batch_size}")
        return self


class Recipe(Section):
    """A whole training run. Paths are relative to the working directory."""

    name: str
    """What the run is called."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The seed of everything random: the projector's first weights, the order of the data."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the forward and backward passes compute in; the weights are trained in fp32."""
    compile: bool = False
    """Compile the language model's layers (torch.compile): a slow first step, then faster ones. CPUs need g++."""
    feature_cache_gb: Annotated[float, Field(ge=0)] = 20
    """The most gigabytes of a frozen tower's features that are kept in the run's folder while it trains, where epochs
    or stages repeat images; 0: none."""
    log_to: list[TrackerName] = ["tensorboard"]
    """Where the figures are looked at, besides each stage's log.jsonl: tensorboard, wandb, trackio."""
    model: ModelRecipe | None = None
    """What the assistant is assembled from."""
    start: str | None = None
    """In place of `model`, the folder of an assistant's checkpoint that the first stage starts from."""
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The numbers of whole checkpoints, which the next stage starts from; rounded ones take half of the space."""
    stages: Annotated[list[StageRecipe], Field(min_length=1)]
    """The stages, in order."""

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Recipe:
        if (self.model is None) == (self.start is None):
            raise ValueError("it needs either `model`, what to assemble, or `start`, a checkpoint")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Recipe:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages have the same name ({', '.join(names)})")
        return self
