package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.commons.csv.CSVFormat;
import org.apache.commons.csv.CSVParser;
import org.apache.commons.csv.CSVRecord;

/** Answers the rows of a CSV text with a head, each as an object. */
public class Csv implements RequestHandler<Csv.Event, List<Map<String, String>>> {
    public static class Event {
        private String csv;

        public String getCsv() {
            return csv;
        }

        public void setCsv(String csv) {
            this.csv = csv;
        }
    }

    @Override
    public List<Map<String, String>> handleRequest(Event event, Context context) {
        if (event.getCsv() == null) {
            throw new IllegalArgumentException("csv: is missing");
        }
        CSVFormat format = CSVFormat.DEFAULT.builder().setHeader().setSkipHeaderRecord(true).build();
        try (CSVParser rows = CSVParser.parse(event.getCsv(), format)) {
            context.getLogger().log("columns: " + rows.getHeaderNames());
            return rows.stream().map(CSVRecord::toMap).collect(Collectors.toList());
        } catch (IOException error) {
            throw new IllegalArgumentException("csv: " + error.getMessage(), error);
        }
    }
}
