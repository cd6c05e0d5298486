// Says who it is and calls $FUNCTION with the defaults of the SDK for Java; prints what `pods.py` reads.
import java.util.concurrent.Callable;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.util.VersionInfo;
import software.amazon.awssdk.services.lambda.LambdaClient;
import software.amazon.awssdk.services.sts.StsClient;

public final class Caller {
    public static void main(String[] words) throws Exception {
        String identity = attempt(() -> {
            try (StsClient sts = StsClient.create()) {
                return "\"" + sts.getCallerIdentity().arn() + "\"";
            }
        });
        String answer = attempt(() -> {
            try (LambdaClient lambda = LambdaClient.create()) {
                SdkBytes event = SdkBytes.fromUtf8String("{\"name\": \"\u00e9\"}");
                String function = System.getenv("FUNCTION");
                return lambda.invoke(call -> call.functionName(function).payload(event)).payload().asUtf8String();
            }
        });
        System.out.printf(
            "{\"version\": \"%s\", \"identity\": %s, \"answer\": %s}%n", VersionInfo.SDK_VERSION, identity, answer);
    }

    private static String attempt(Callable<String> call) throws Exception {
        try {
            return call.call();
        } catch (AwsServiceException error) {
            System.err.println(error);
            return "{\"error\": \"" + error.awsErrorDetails().errorCode() + "\"}";
        }
    }
}
