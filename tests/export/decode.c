/* Runs the signature `decode` of an exported SavedModel through TensorFlow's C API, as the bindings for Go, Rust,
   Java and C++ do: decode FOLDER INPUT OUTPUT LATENTS < codes > pixels, both float32. INPUT and OUTPUT are the
   names of the graph's operations, as `saved_model_cli show` prints them, such as decode_codes:0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

static TF_Status *status;

static void check(const char *what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

static TF_Output find(TF_Graph *graph, char *name) {
  char *colon = strchr(name, ':');
  int index = colon ? atoi(colon + 1) : 0;
  if (colon) *colon = 0;
  TF_Output output = {TF_GraphOperationByName(graph, name), index};
  if (output.oper) return output;
  fprintf(stderr, "no operation %s\n", name);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 5) return fprintf(stderr, "decode FOLDER INPUT OUTPUT LATENTS\n"), 2;
  status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check("load");

  static float codes[1 << 20];
  int64_t latents = atoi(argv[4]);
  int64_t shape[] = {(int64_t)fread(codes, sizeof(float), 1 << 20, stdin) / latents, latents};
  size_t size = shape[0] * shape[1] * sizeof(float);
  TF_Tensor *input_value = TF_AllocateTensor(TF_FLOAT, shape, 2, size), *output_value = NULL;
  memcpy(TF_TensorData(input_value), codes, size);

  TF_Output input = find(graph, argv[2]), output = find(graph, argv[3]);
  TF_SessionRun(session, NULL, &input, &input_value, 1, &output, &output_value, 1, NULL, 0, NULL, status);
  check("run");
  fwrite(TF_TensorData(output_value), 1, TF_TensorByteSize(output_value), stdout);

  TF_DeleteTensor(input_value);
  TF_DeleteTensor(output_value);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
