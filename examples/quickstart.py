"""Loads a pretrained model of 3DShapes, draws what each latent does, and scores it.

python examples/quickstart.py     # seconds; nothing is downloaded; writes traversals.png
"""

import keras_provlae as kp


def main():
    model = kp.ProgressiveVAE.from_preset("shapes3d_64", load_weights=True)
    truth = kp.datasets.shapes3d("procedural")  # all 480,000 images, rendered on demand
    images, _ = truth.sample(500, seed=0)
    mean, _ = model.encode_on_batch(images)
    print(f"The codes of {len(mean)} images have {mean.shape[1]} latents, deepest rung first:")
    print(", ".join(name or "not used" for name in model.latent_names))

    card = kp.metrics.evaluate(model, truth, num_images=5_000, include=["mutual_information"], progress=False)
    around = {"images": images, "quantiles": (0.01, 0.99), "information": card, "data": truth}
    path = kp.visualization.write_png(kp.visualization.traversals(model, images[11:12], **around), "traversals.png")
    print(f"MIG {float(card['mig']):.3f}, MIG-sup {float(card['mig_sup']):.3f} on 5,000 images. Look at {path}")


if __name__ == "__main__":
    main()
