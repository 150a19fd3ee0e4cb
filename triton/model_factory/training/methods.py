"""Methods: which weights of an encoder learn, and how they become part of the encoder again.

LoRA, AdaLoRA and prefix tuning are peft's. peft has no bottleneck adapter (Houlsby et al., 2019): it is here.
LoRA and AdaLoRA are merged into the weights they change, so the result is a plain encoder, as after full
fine-tuning. An adapter or a prefix stays beside the weights; such a model is measured, but not exported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

from model_factory.training.recipe import EncoderRecipe
from model_factory.training.runs import Part

ADAPTED = ("attention.output.dense", "output.dense")
"""Where a layer gets its two adapters: after attention and after the feed-forward part."""

INITIAL_RANK = 1.5
"""Of AdaLoRA, in target ranks (the ratio of Zhang et al., 2023)."""
WARM_UP, FINAL = 0.1, 0.3
"""Shares of AdaLoRA's steps before ranks are cut and after they are settled."""


@dataclass(frozen=True)
class Learner:
    """An encoder made ready to learn.

    `module` is called like `BertModel`; its parameters that require a gradient are those of the method.
    """

    module: Any
    merge: Callable[[], Any]
    """Return the plain encoder that `module` has become; only where `mergeable`."""
    mergeable: bool = True
    after_step: Callable[[int], None] | None = None
    penalty: Callable[[], Any] | None = None
    """Loss that the method itself adds."""
    parts: dict[str, Part] | None = None


def prepare(encoder: Any, recipe: EncoderRecipe, last_step: int | None) -> Learner:
    """Wrap `encoder`, a `BertModel`, so that it learns by the recipe's method."""
    method = {"full": _full, "lora": _lora, "adalora": _adalora, "adapter": _adapter, "prefix": _prefix}
    return method[recipe.method.kind](encoder, recipe, last_step)


def _full(encoder: Any, recipe: EncoderRecipe, _: int | None) -> Learner:
    encoder.requires_grad_(True)
    encoder.embeddings.word_embeddings.requires_grad_(not recipe.model.freeze_word_embeddings)
    return Learner(encoder, lambda: encoder)


def _lora(encoder: Any, recipe: EncoderRecipe, _: int | None) -> Learner:
    from peft import LoraConfig, get_peft_model

    method = recipe.method
    module = get_peft_model(
        encoder,
        LoraConfig(
            task_type="FEATURE_EXTRACTION",
            r=method.rank,
            lora_alpha=method.alpha,
            target_modules=list(method.modules),
        ),
    )
    return Learner(module, module.merge_and_unload)


def _adalora(encoder: Any, recipe: EncoderRecipe, last_step: int | None) -> Learner:
    """AdaLoRA: singular values instead of one scale, of which the least important are cut in time."""
    from peft import AdaLoraConfig, get_peft_model

    if last_step is None:
        raise typer.BadParameter("adalora cuts ranks by the step: give budget.steps or budget.epochs.")
    method = recipe.method
    config = AdaLoraConfig(
        task_type="FEATURE_EXTRACTION",
        init_r=round(INITIAL_RANK * method.rank),
        target_r=method.rank,
        lora_alpha=method.alpha,
        target_modules=list(method.modules),
        total_step=max(10, last_step),
        tinit=round(WARM_UP * last_step),
        tfinal=round(FINAL * last_step),
        deltaT=max(1, last_step // 100),
    )
    module = get_peft_model(encoder, config)

    def penalty() -> Any:
        """Keep singular vectors orthogonal: peft adds this only to a loss that the model itself returns."""
        import torch

        distances = []
        for name, weights in module.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                product = weights @ weights.T if "lora_A" in name else weights.T @ weights
                distances.append(torch.linalg.norm(product - torch.eye(len(product), device=product.device)))
        return config.orth_reg_weight * torch.stack(distances).mean()

    return Learner(
        module,
        module.merge_and_unload,
        after_step=module.base_model.update_and_allocate,
        penalty=penalty,
        parts={"ranks": _Ranks(module)},
    )


class _Ranks:
    """What AdaLoRA knows of the importance of its ranks."""

    NAMES = ("ipt", "exp_avg_ipt", "exp_avg_unc")

    def __init__(self, module: Any) -> None:
        self._allocator = module.base_model.rankallocator
        self._config = module.peft_config["default"]
        self._module = module

    def state_dict(self) -> dict[str, Any]:
        return {name: dict(getattr(self._allocator, name)) for name in self.NAMES} | {
            "rank_pattern": self._config.rank_pattern
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = next(self._module.parameters()).device
        for name in self.NAMES:
            setattr(self._allocator, name, {key: v.to(device) for key, v in state[name].items()})
        self._config.rank_pattern = state["rank_pattern"]


def _prefix(encoder: Any, recipe: EncoderRecipe, _: int | None) -> Learner:
    """Prefix tuning (Li and Liang, 2021): learnt keys and values in front of every layer's."""
    from peft import PrefixTuningConfig, get_peft_model

    config = PrefixTuningConfig(
        task_type="FEATURE_EXTRACTION", num_virtual_tokens=recipe.method.prefix_tokens
    )
    module = get_peft_model(encoder, config)
    return Learner(module, lambda: module, mergeable=False)


def _adapter(encoder: Any, recipe: EncoderRecipe, _: int | None) -> Learner:
    """Houlsby's adapters: they and the layer norms learn."""
    encoder.requires_grad_(False)
    for layer in encoder.encoder.layer:
        for place in ADAPTED:
            holder = layer.get_submodule(place.removesuffix(".dense"))
            holder.dense = _bottleneck(holder.dense, recipe.method.adapter_width)
            holder.LayerNorm.requires_grad_(True)
    return Learner(encoder, lambda: encoder, mergeable=False)


def _bottleneck(dense: Any, width: int) -> Any:
    """Return `dense` followed by x + up(gelu(down(x))), which begins as the identity."""
    import torch

    class Bottleneck(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = dense
            self.down = torch.nn.Linear(dense.out_features, width)
            self.up = torch.nn.Linear(width, dense.out_features)
            torch.nn.init.normal_(self.down.weight, std=0.02)
            for zeroed in (self.down.bias, self.up.weight, self.up.bias):
                torch.nn.init.zeros_(zeroed)

        def forward(self, hidden: Any) -> Any:
            hidden = self.dense(hidden)
            return hidden + self.up(torch.nn.functional.gelu(self.down(hidden)))

    return Bottleneck()
