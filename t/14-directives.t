# Each directive says what is wrong, is allowed in its places, and is merged.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;

my @TIMES = ([qw(5 500ms 2min 1h)], [qw(0 -1 abc 1.5 5x)],
             qr/'%s' is not a time above zero; write a number and ms, s, min/);
my @OR_OFF = ([qw(5 500ms off)], $TIMES[1], $TIMES[2]);
my @MEMORY = ([qw(256 64K 1G)], [qw(255 abc 1.5K 64KB 1025M)],
              qr/'%s' is not a size from 256 bytes to 1024M; write a number/);
my @FLAG = ([qw(On off)], [qw(yes 1)], qr/must be On or Off/);

# directive => [values accepted, values refused, what is said (%s is the
# value), what is said of none at all, whether .htaccess may have it]
my $ONE = qr/takes one argument/;
my %directives = (
    FcgiConnectTimeout => [@TIMES, $ONE, 0],
    FcgiTimeout => [@TIMES, $ONE, 0],
    FcgiFirstByteTimeout => [@OR_OFF, $ONE, 0],
    FcgiTotalTimeout => [@OR_OFF, $ONE, 0],
    FcgiMaxHeaderSize => [@MEMORY, $ONE, 0],
    FcgiBufferMemory => [@MEMORY, $ONE, 0],
    FcgiBufferMax => [[qw(256 2G 1048576G)], [qw(255 abc 1048577G 1T)],
        qr/'%s' is not a size from 256 bytes to 1073741824M/, $ONE, 0],
    FcgiBufferDir => [['/tmp', 'logs'], ['/none/such', 'httpd.conf'],
        qr/is not a directory; make it, writable for httpd's user/, $ONE, 0],
    FcgiIgnoreClientAbort => [@FLAG, qr/must be On or Off/, 1],
    FcgiRequestBuffering => [@FLAG, qr/must be On or Off/, 0],
    FcgiFlush => [[qw(Auto on OFF)], [qw(yes 1)],
        qr/FcgiFlush: '%s' is not Auto, On or Off/, $ONE, 1],
    FcgiPark => [[qw(0 100ms 2 Off)], [qw(On -1 soon)],
        qr/FcgiPark: '%s' is not a time or Off/, $ONE, 0],
    FcgiRetry => [['Safe', 'off', 'Safe 500ms'], [qw(On all)],
        qr/FcgiRetry: '%s' is not Safe or Off/, qr/takes 1-2 arguments/, 0],
    FcgiScript => [[qw(Auto file VIRTUAL)], [qw(On files)],
        qr/FcgiScript: '%s' is not Auto, File or Virtual/, $ONE, 0],
    FcgiAllow => [
        ['/run/*.sock', '127.0.0.1:*', 'fcgi:/x', 'None', '/a /b host:1',
         'Configured', 'configured /a'],
        ['run/x.sock', 'none /a', '/a none'],
        qr/FcgiAllow:\ (?:'%s'\ is\ not\ the\ pattern\ of\ an\ absolute\ path
           |None\ stands\ alone)/x,
        qr/FcgiAllow: write patterns of addresses, like/, 0],
    FcgiParam => [
        ['NAME value', '!NAME', '_A1 ""', 'A "%{HTTP_HOST}"',
         'A b expr=true', '!A expr=true', 'A b "expr=%{HTTP_HOST} == \'x\'"',
         'A "" expr=true', 'A expr=b expr=true'],
        ['A-B x', '1A x', 'NAME', '! x', '!A-B', 'A b c', '!A b',
         '!A expr=true x', 'A "%{HTTP_HOST"', 'A b "expr=%{X"',
         'A b "expr=no condition"', 'A b expr=', 'A %{nothing:x}', '!',
         'A expr=true', 'A "EXPR=%{HTTP_HOST} == \'x\'"'],
        qr/FcgiParam:\ (?:'.*'\ is\ not\ (?:the\ name\ of\ a\ variable;
           \ write\ letters,\ digits\ and\ _|an\ expression:\ \S)
           |write\ NAME\ value,\ or\ !NAME,\ and\ then\ expr=condition
           |there\ is\ a\ condition\ and\ no\ value)/x,
        qr/takes one, two or three arguments/, 1],
    FcgiDocumentRoot => [['/srv', '/', 'Real', 'off', '"/with space/"'],
        [qw(srv on C:/srv)],
        qr/FcgiDocumentRoot: '%s' is not an absolute path, Real or Off/,
        $ONE, 0],
    FcgiErrorOverride => [['On', 'off', 'On 404', 'on 400 404 599'],
        ['404', 'On 200', 'On 399', 'On 600', 'On 4040', 'On x', 'Off 404',
         'yes', 'On 40x'],
        qr/FcgiErrorOverride:\ (?:write\ On,\ On\ and\ statuses,\ or\ Off
           |'\w+'\ is\ not\ a\ status\ from\ 400\ to\ 599)/x,
        qr/write On, On and statuses, or Off/, 1],
    FcgiSendfile => [['Off', '/srv', '/srv /home'], ['srv', '/srv x', 'On'],
        qr/FcgiSendfile:\ '\w+'\ is\ not\ the\ absolute\ path\ of\ a\ folder;
           \ write\ such\ paths,\ or\ Off/x,
        qr/'' is not the absolute path of a folder/, 0],
    FcgiStderrLevel => [['warn', 'DEBUG', 'info "^PHP Notice"', 'trace8'],
        ['loud', 'info "("'],
        qr/FcgiStderrLevel: '[^']*'(?:: \S| is not a regular expression)/,
        qr/takes 1-2 arguments/, 0],
    FcgiBackend => [
        ['/run/x', 'name /run/x', '127.0.0.1:9000 max=5', 'fcgi:/run/x'],
        ['localhost', '/x max', '/x max=0', '/x none=1', '1a /x'],
        qr/FcgiBackend: \S/, qr/FcgiBackend: write \[name\] address/, 0],
);

my @SECTIONS = ('Directory /x', 'DirectoryMatch x', 'Location /x',
                'LocationMatch x', 'Files x', 'FilesMatch x', 'If true');

sub inside {
    my ($section, $line) = @_;
    my ($name) = split ' ', $section;
    return "<$section>\n$line\n</$name>\n";
}

subtest 'right values, in all places' => sub {
    for my $name (sort keys %directives) {
        my @lines = map { "$name $_" } @{ $directives{$name}[0] };
        my @sections = $name eq 'FcgiBackend' ? ()
            # under no condition, see t/29-trust.t
            : grep { !/^If/ || $name !~ /^Fcgi(?:Allow|Sendfile)$/ } @SECTIONS;
        my ($status, $output) = Httpd->configtest(join "\n",
            @lines, inside('VirtualHost *', $lines[0]),
            map { my $section = $_;
                  map { inside($section, $_),
                        inside('VirtualHost *', inside($section, $_)) }
                      @lines } @sections);
        is($status, 0, $name) or diag $output;
    }
};

subtest 'wrong values' => sub {
    for my $name (sort keys %directives) {
        my (undef, $wrong, $words, $none) = @{ $directives{$name} };
        for my $value (@$wrong, '') {
            my $bare = $value =~ s/^"(.*)"$/$1/r;
            my $says = $value eq '' ? $none : $words =~ s/%s/\Q$bare\E/gr;
            my ($status, $output) = Httpd->configtest(
                "# a comment\n$name $value");
            isnt($status, 0, "$name $value");
            like($output, qr/Syntax error on line (\d+) of \S+httpd\.conf:\n/,
                 'file and line');
            like($output, qr/$says/, 'and what was expected');
        }
    }
};

subtest 'the line is the right one' => sub {
    my $dir = Private::temp_dir('conf');
    my $path = Private::spew("$dir/some.conf", "# one\n<Location /x>\n"
        . "  # three\n  FcgiFlush maybe\n</Location>\n");
    my (undef, $output) = Httpd->configtest("Include $dir/*.conf");
    like($output, qr/Syntax error on line 4 of \Q$path\E:\nFcgiFlush: /,
         'of an included file');
};

subtest 'FcgiBackend is for the server' => sub {
    for my $section (@SECTIONS) {
        my ($status, $output) =
            Httpd->configtest(inside($section, 'FcgiBackend /x'));
        isnt($status, 0, $section);
        like($output, qr/FcgiBackend not allowed in <\w+/, 'and says so');
    }
};

subtest '.htaccess' => sub {
    my (%files, $config);
    for my $name (sort keys %directives) {
        my ($value) = @{ $directives{$name}[0] };
        for my $place ($name, "no-$name") {
            $files{"$place/a.txt"} = 'text';
            $files{"$place/.htaccess"} = "$name $value";
        }
        my ($wrong) = @{ $directives{$name}[1] };
        $files{"wrong-$name/a.txt"} = 'text';
        $files{"wrong-$name/.htaccess"} = "$name $wrong";
        $config .= inside("Directory \@DOCROOT@/no-$name",
                          'AllowOverride AuthConfig Indexes Limit Options');
    }
    my $httpd = Httpd->start(files => \%files, config => $config);
    my $status = sub { Client->get($httpd->port, "/$_[0]/a.txt")->status };
    for my $name (sort keys %directives) {
        my $may = $directives{$name}[4];
        is($status->($name), $may ? 200 : 500,
           $name . ($may ? ' is allowed' : ' is not allowed'));
        is($status->("no-$name"), 500, 'not without AllowOverride FileInfo');
        is($status->("wrong-$name"), 500, 'and no wrong value');
        my ($line) = $httpd->error_log =~ m{/wrong-$name/\.htaccess: (.*)};
        my $words = $may ? qr/./ : qr/^$name not allowed here/;
        like($line // '', $words, 'which the log says');
        my $says = $directives{$name}[2] =~ s/%s/.*/gr;
        like($line // '', qr/$says/, 'in words') if $may;
    }
    $httpd->ok_healthy;
};

# Does what the query says.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $params = $c->read_params or return;
    my $what = $params->{params}{QUERY_STRING} // '';
    my $early = $params->{params}{CONTENT_LENGTH} // 'none';
    return if $what eq 'die';
    $c->report(begun => 1) if $what eq 'begun';
    $c->wait_release('never', 0.25) if $what eq 'wait';
    my %says = (
        header => 'X-Long: ' . 'x' x 500, error => 'Status: 404 None',
        send => 'X-Sendfile: /etc/hostname');
    $c->stderr("a line of stderr\n") if $what eq 'stderr';
    $c->reply(join "\r\n", 'Content-Type: text/plain', $says{$what} // (), '',
              $early);
}, workers => 4);

# An upload whose length is not said.  Its end is sent when the application
# was asked, or after some time.
sub upload {
    my ($port, $url, %headers) = @_;
    my $conn = Client->connect($port);
    $conn->send("POST $url?begun HTTP/1.1\r\n"
        . "Host: $headers{Host}\r\nConnection: close\r\n"
        . "Transfer-Encoding: chunked\r\n\r\n3e8\r\n" . 'x' x 1000);
    my $begun = $app->wait_report('begun', 0.2);
    $conn->send("\r\n0\r\n\r\n");
    my $answer = $conn->read_response;
    $app->wait_report('begun', 5) if $answer->status == 200 && !$begun;
    return $answer;
}

# directive => [value of the server, another, probe, the two results]; a probe
# takes the port, an URL and a Host.
my $with = sub {
    my ($query) = @_;
    return sub { my ($port, $url, @host) = @_;
                 return Client->get($port, "$url?$query", @host)->status };
};
my $httpd;
my %merged = (
    FcgiTimeout => [60, '50ms', $with->('wait'), 200, 504],
    FcgiFirstByteTimeout => ['off', '50ms', $with->('wait'), 200, 504],
    FcgiTotalTimeout => ['off', '50ms', $with->('wait'), 200, 504],
    FcgiMaxHeaderSize => ['64K', 256, $with->('header'), 200, 502],
    FcgiBufferMax => ['1G', 500, sub { upload(@_)->status }, 200, 413],
    FcgiBufferMemory => ['64K', 500, sub { upload(@_)->status }, 200, 507],
    FcgiRequestBuffering => ['On', 'Off', sub { upload(@_)->body },
                             1000, 'none'],
    FcgiRetry => ['Off', 'Safe', sub {
        my $count = $app->connections;
        $with->('die')->(@_);
        return $app->connections - $count;
    }, 1, 2],
    FcgiErrorOverride => ['Off', 'On', sub {
        my ($port, $url, @host) = @_;
        return Client->get($port, "$url?error", @host)->body =~ /own words/
            ? 'page' : 'answer';
    }, 'answer', 'page'],
    FcgiSendfile => ['Off', '/etc', sub {
        my ($port, $url, @host) = @_;
        return Client->get($port, "$url?send", @host)->body eq 'none'
            ? 'answer' : 'file';
    }, 'answer', 'file'],
    FcgiStderrLevel => ['error', 'warn', sub {
        my $length = length $httpd->error_log;
        $with->('stderr')->(@_);
        my ($level) = substr($httpd->error_log, $length)
            =~ /fastcgi_handler:(\w+)\].*a line of stderr/;
        return $level;
    }, 'error', 'warn'],
);

subtest 'merging' => sub {
    my (%files, $config, $hosts) = ('closed/none' => '');
    $files{'a.x'} = '';
    for my $name (sort keys %merged) {
        my ($outer, $inner) = @{ $merged{$name} };
        $config .= "$name $outer\n" if $name ne 'FcgiStderrLevel';
        $hosts .= inside('VirtualHost *', "ServerName $name\n$name $inner\n"
            . inside("Directory \@DOCROOT@/host-$name", "$name $outer"));
        $config .= inside("Directory \@DOCROOT@/$name", "$name $inner")
            . inside("Directory \@DOCROOT@/$name/same", 'FcgiFlush On')
            . inside("Directory \@DOCROOT@/$name/back", "$name $outer")
            . inside("Location /$name/url", "$name $outer")
            . inside("Location /loc-$name", "$name $inner");
        $files{"$_/a.x"} = '' for $name, "$name/same", "$name/back",
            "$name/url", "host-$name", "ht-$name", "loc-$name";
        $files{"ht-$name/.htaccess"} = "$name $inner"
            if $directives{$name}[4];
    }
    $httpd = Httpd->start(
        vars => { APP => $app->handler }, files => \%files,
        config => $config . <<'EOC' . $hosts);
AddHandler @APP@ .x
ErrorDocument 404 "our own words"
FcgiBufferDir @ROOT@/run
<VirtualHost *>
  ServerName plain
</VirtualHost>
EOC
    for my $name (sort keys %merged) {
        my (undef, undef, $probe, $outer, $inner) = @{ $merged{$name} };
        # host, folder, the result
        my @table = (
            ['plain', '', $outer, 'the server'],
            [$name, '', $inner, 'a virtual host'],
            [$name, "/host-$name", $outer, 'a directory in it'],
            ['plain', "/$name", $inner, 'a directory'],
            ['plain', "/$name/same", $inner, 'one below, of other settings'],
            ['plain', "/loc-$name", $inner, 'a Location'],
            $name =~ /Timeout/ ? () : (
                ['plain', "/$name/back", $outer, 'back again'],
                ['plain', "/$name/url", $outer, 'a Location over it']),
            $directives{$name}[4]
                ? ['plain', "/ht-$name", $inner, '.htaccess'] : (),
        );
        next if $name eq 'FcgiBufferMemory' && $> != 0;
        is($probe->($httpd->port, "$_->[1]/a.x", Host => $_->[0]), $_->[2],
           "$name, $_->[3]") for @table;
    }
    $httpd->ok_healthy;
};

done_testing;
